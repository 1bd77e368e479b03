"""Stage choose: chooses the finetuning recipe of each budget from one grid, on the user's own labels."""
