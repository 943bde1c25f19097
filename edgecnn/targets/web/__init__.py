"""What runs in Node and in a browser, and what serves pages to one; none of it needs edgecnn."""
