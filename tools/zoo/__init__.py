"""How the models of the zoo were made: tasks, styles, training, measuring."""
