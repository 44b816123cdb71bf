"""Other faces of the same shop: routes in the shape that buyers' programs know already, sold as the native ones are."""
