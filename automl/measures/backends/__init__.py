"""The libraries that run exported networks, and the one way of measuring how fast they do.

What is in this folder imports NumPy, the standard library and, of the project, the few modules that
`automl.measures.alone` copies with it: it is also the program `measure.pyz` in an exported folder, which measures on
machines without the project.
"""
