"""Makes sandboxes on one machine: namespaces through ctypes, processes forked from templates.

Runs in processes of its own, with the standard library and `sandbox_runtime` only, on the programs'
Python. Nothing here is imported by the service.

    keeper    waits for the service's death; then removes what the kernel does not
    nursery   PID 1 of everything below; forks supervisors, so that none has to be started
    science   has the programs' libraries loaded; forks zygotes, each PID 1 of a sandbox
"""
