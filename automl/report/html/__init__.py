"""A study as a page: read off the record alone, charts as vector graphics, one file that asks nothing of anybody."""
