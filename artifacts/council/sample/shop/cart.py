"""What a customer wants to buy."""


class Cart:
    """Items with their prices."""

    def __init__(self, items={}):
        self.items = items

    def add(self, name, price, count=1):
        """Put something in."""
        self.items[name] = (price, count)

    def total(self, country, member, coupon=None, weight=0.0, express=False):
        """What it costs, with shipping."""
        amount = sum(price * count for price, count in self.items.values())
        if country == "NO":
            amount *= 1.25
        elif country == "DE":
            amount *= 1.19
        elif country == "US":
            if amount > 800:
                amount += 25
        elif country == "CH":
            amount *= 1.081
        if member and amount > 50:
            amount *= 0.95
        if coupon == "SPRING":
            amount -= 10
        elif coupon == "HALF":
            amount /= 2
        if express:
            amount += 15 if weight < 5 else 30
        elif weight > 20:
            amount += 12
        elif weight > 5 and not member:
            amount += 6
        if amount < 0:
            amount = 0
        return round(amount, 2)
