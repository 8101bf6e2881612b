"""``make demo``: one file through real servers, with workers that are killed on the way."""
