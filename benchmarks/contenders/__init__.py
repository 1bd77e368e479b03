"""SimCLR on one encoder, by Headstart and by each of its peers.

A module here is a contender. It holds `SETTINGS`, the settings that its best is looked for in, and
`pretrain(encoder, pool, recipe, setting, steps, clock)`, which trains the encoder in place for
`steps` optimiser steps, and tells the clock of each. All of them share the encoder, the projector's
sizes, batch, optimiser, rate, decay and schedule. Views, loader, loop and loss are each one's own.
"""
