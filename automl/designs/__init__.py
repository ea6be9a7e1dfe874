"""A network designed for given images within a budget and a time: a study over cells whose time is planned."""
