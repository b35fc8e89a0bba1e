"""The gallery: a page per op with its picture, written from the records."""
