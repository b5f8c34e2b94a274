"""The toolkit around MM-ORIENT: everything a person does with tables of memes and models."""
