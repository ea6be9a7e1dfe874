"""One file a version. It stands alone: what it says of tables is never changed when the tables are."""
