"""The folder of a run: where things lie, phases done once, records, and which configuration it belongs to."""
