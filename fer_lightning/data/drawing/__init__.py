"""How the drawn faces of :mod:`fer_lightning.data.sketch` are made: a person, what the muscles do, a picture of it."""
