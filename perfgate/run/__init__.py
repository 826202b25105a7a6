"""One run: which launches, in which order, what is measured on each."""
