"""A recipe carried out: settings, plan, stages."""
