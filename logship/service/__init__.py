"""Programs and commands, composed of the layers below.

A commit's way: `ship` (slot to journal to relay), `replay` (relay to journal to memory and persistence); what both show
of themselves is in `watch`, and `run` is the two in one process. The rest is what people ask for by a command:
`initial`, `compare`, `memory`, `checks`, `demo`, and the modules here.
"""
