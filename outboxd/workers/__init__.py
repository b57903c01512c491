"""The jobs of an instance: one worker each, all run by one class of loop."""
