"""A comparison as one page that holds everything it shows: what is on it, and how it is written."""
