"""A study as a page: read off the record alone, charts drawn as vector graphics, one file that asks nothing of anybody."""
