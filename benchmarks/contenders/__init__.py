"""SimCLR with the same encoder, by Headstart and by other libraries (its peers).

Each module is a contender. It has `SETTINGS`, the settings of which the fastest is chosen, and
`pretrain(encoder, pool, recipe, setting, steps, clock)`, which trains the encoder in place for `steps`
optimiser steps and calls `clock.tick()` after each. Encoder, projector sizes, batch size, optimiser,
learning rate, weight decay and schedule are the same for all. Views, loader, loop and loss are each
library's own.
"""
