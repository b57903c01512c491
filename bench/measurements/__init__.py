"""The measurements, a module each, and the table of them in the order in which they are made."""
