"""Tables: from files to rows with pictures, texts, labels and splits, and what is wrong with them."""
