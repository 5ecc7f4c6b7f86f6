"""The sound-source localizer, which picks the frame that shows the sound."""
