"""Results for people: the table and the pictures."""
