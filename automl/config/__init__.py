"""What a study file may hold: frozen options, read and checked in one place."""
