from shop.cart import Cart


def test_a_cart_adds_up():
    cart = Cart({})
    cart.add("tea", 4.0, 2)
    assert cart.total("US", member=False) == 8.0
