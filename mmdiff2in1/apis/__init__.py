"""What users call: the inferencer and the stage chain."""
