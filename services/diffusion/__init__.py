"""The maths of diffusion: schedules, predictions, guidance, samplers. torch only."""
