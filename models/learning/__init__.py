"""Learning: from a frozen dataset to weights, and how good they are.

Nothing here knows a patient: cases are arrays with a pseudonym. So a folder of them, and this
package, are all that a cluster needs.
"""
