"""An own machine as a vendor: one open-weight pipeline in a process of its own, behind the protocol of OpenAI."""
