"""What people see: the leaders' PDF, the page for the field, the workbook. Only input: a :class:`~micromarket.plan.Plan`."""
