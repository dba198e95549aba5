"""Actions of operators on the pages: each is confirmed on a page that says what will and will not ring."""
