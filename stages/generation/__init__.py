"""From sounds and pictures to new pictures: `model.load_model(...).generate(...)`."""
