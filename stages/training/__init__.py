"""How anything is trained: the machine, the loop, its optimiser, checkpoints and random numbers."""
