"""The worker: what makes a project's stages run."""
