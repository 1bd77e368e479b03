"""Stage distil: spreads the few labels of a draw over the pool, and trains its classifier on all of them."""
