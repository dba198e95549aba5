"""Sign-in to the pages: sessions and roles, forms that only these pages can send, and limits for wrong secrets."""
