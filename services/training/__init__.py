"""How the bundle in models/ is made: scenes, training of every stage, evaluation."""
