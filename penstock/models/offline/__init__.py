"""The offline model: text and programs for every card, made in process and labelled as such."""
