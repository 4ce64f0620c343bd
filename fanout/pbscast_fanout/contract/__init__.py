"""What others may rely on, made from the models: JSON Schemas and an AsyncAPI 3 document."""
