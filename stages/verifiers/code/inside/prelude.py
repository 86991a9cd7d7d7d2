"""Helpers that LeetCode's and HumanEval's tests use without defining them, on the tests' side."""


class ListNode:
    def __init__(self, val=0, next=None):  # type: ignore[no-untyped-def]
        self.val, self.next = val, next


class TreeNode:
    def __init__(self, val=0, left=None, right=None):  # type: ignore[no-untyped-def]
        self.val, self.left, self.right = val, left, right


def list_node(values):  # type: ignore[no-untyped-def]
    """A linked list of these values."""
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head


def tree_node(values):  # type: ignore[no-untyped-def]
    """A binary tree of its values by level, None for a missing node."""
    if not values:
        return None
    nodes = [None if value is None else TreeNode(value) for value in values]
    children = iter(nodes[1:])
    for node in filter(None, nodes):
        node.left, node.right = next(children, None), next(children, None)
    return nodes[0]


def is_same_list(one, other):  # type: ignore[no-untyped-def]
    while one is not None and other is not None:
        if one.val != other.val:
            return False
        one, other = one.next, other.next
    return one is None and other is None


def is_same_tree(one, other):  # type: ignore[no-untyped-def]
    if one is None or other is None:
        return one is None and other is None
    return (
        one.val == other.val
        and is_same_tree(one.left, other.left)
        and is_same_tree(one.right, other.right)
    )


def poly(xs, x):  # type: ignore[no-untyped-def]
    return sum(coefficient * x**power for power, coefficient in enumerate(xs))


def encode_cyclic(s):  # type: ignore[no-untyped-def]
    groups = [s[i : i + 3] for i in range(0, len(s), 3)]
    return "".join(g[1:] + g[0] if len(g) == 3 else g for g in groups)


def encode_shift(s):  # type: ignore[no-untyped-def]
    return "".join(chr((ord(c) - ord("a") + 5) % 26 + ord("a")) for c in s)
