"""Small helpers that know nothing of studies: files, names, time spans, modes of networks."""
