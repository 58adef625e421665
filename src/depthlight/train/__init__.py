"""The trainer, its checkpoints, one file per stage, recipes."""
