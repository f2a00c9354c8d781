"""What a program is, as a person writes it: model, builder, JSON contract, operation table, rules."""
