"""Stage choose: chooses the finetuning recipe of each budget by one search, on the user's own labels."""
