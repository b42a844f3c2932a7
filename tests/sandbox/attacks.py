"""What a script may try. Each prints "GOT" and what it got, when it got something.

A script finds its targets in `at`. They are the test's own: a canary file, listeners on the
loopback, a process that waits to be killed. A script that works harms nothing else.
"""

PRELUDE = """\
import ctypes, errno, fcntl, json, os, signal, socket, struct, sys, time
at = json.loads(sys.stdin.read())
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
def syscall(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def got(what=""):
    print("GOT", what, flush=True)
"""

#: By what they do. Those that name `victim` have a process to do it to.
ATTACKS = {
    "read a file": """
got(open(at["canary"]).read())
""",
    "read a file through a link": """
os.symlink(at["canary"], "link")
got(open("link").read())
""",
    "read a file through an open folder": """
folder = os.open("/", os.O_RDONLY | os.O_PATH)
got(open(os.open(at["canary"].lstrip("/"), os.O_RDONLY, dir_fd=folder)).read())
""",
    "list a folder": """
got(os.listdir(at["folder"]))
""",
    "write a file": """
open(at["folder"] + "/new", "w").write("x")
got()
""",
    "append to a file": """
open(at["canary"], "a").write("x")
got()
""",
    "cut a file short": """
os.truncate(at["canary"], 0)
got()
""",
    "cut a file short by opening it": """
os.open(at["canary"], os.O_RDONLY | os.O_TRUNC)
got()
""",
    "remove a file": """
os.unlink(at["canary"])
got()
""",
    "move a file in": """
os.rename(at["canary"], "mine")
got(open("mine").read())
""",
    "link a file in and write it": """
os.link(at["canary"], "mine")
open("mine", "a").write("x")
got()
""",
    "make a folder elsewhere": """
os.mkdir(at["folder"] + "/new")
got()
""",
    "change a file's mode": """
os.chmod(at["canary"], 0o777)
if os.stat(at["canary"]).st_mode & 0o777 == 0o777:
    got()
""",
    "change a file's times": """
os.utime(at["canary"], (1, 1))
if os.stat(at["canary"]).st_mtime == 1:
    got()
""",
    "leave something in shared memory": """
path = "/dev/shm/" + at["name"]
open(path, "w").close()
os.unlink(path)
got()
""",
    "make shared memory that outlives it": """
number = libc.shmget(0, 4096, 0o1600)
if number >= 0:
    libc.shmctl(number, 0, None)
    got()
""",
    "take memory that no limit counts": """
file = os.memfd_create("x")
os.write(file, b"x" * 4096)
got()
""",
    "take room on disk beyond its file's limit": """
file = os.open("large", os.O_CREAT | os.O_RDWR)
libc.fallocate(file, 1, ctypes.c_long(0), ctypes.c_long(at["disk"] * 4))  # FALLOC_FL_KEEP_SIZE
if os.fstat(file).st_blocks * 512 > at["disk"]:
    got()
""",
    "read a process's environment": """
got(open(f"/proc/{at['victim']}/environ").read())
""",
    "write to a process's pipe": """
open(f"/proc/{at['victim']}/fd/1", "w").write("x")
got()
""",
    "see what a process runs": """
got(os.readlink(f"/proc/{at['victim']}/exe"))
""",
    "list the processes": """
got(os.listdir("/proc"))
""",
    "read its own /proc": """
got(open("/proc/self/status").readline())
""",
    "read a process's memory": """
memory = os.open(f"/proc/{at['victim']}/mem", os.O_RDONLY)
got(os.pread(memory, 10, at["address"]))
""",
    "read a process's memory by system call": """
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
room = ctypes.create_string_buffer(10)
here, there = Piece(ctypes.addressof(room), 10), Piece(at["address"], 10)
number = 310 if X86 else 270
one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
syscall(number, at["victim"], ctypes.byref(here), one, ctypes.byref(there), one, none)
got(room.raw)
""",
    "trace a process": """
number = 101 if X86 else 117
nothing = ctypes.c_void_p(0)
syscall(number, ctypes.c_long(0x4206), at["victim"], nothing, nothing)  # PTRACE_SEIZE
got()
""",
    "take a process's open file": """
process = os.pidfd_open(at["victim"])
file = syscall(438, process, at["victim_file"], 0)
got(os.pread(file, 100, 0))
""",
    "kill a process": """
os.kill(at["victim"], signal.SIGKILL)
got()
""",
    "kill a process's group": """
os.killpg(at["victim"], signal.SIGKILL)
got()
""",
    "kill a process by a handle": """
signal.pidfd_send_signal(os.pidfd_open(at["victim"]), signal.SIGKILL)
got()
""",
    "kill a process by a queued signal": """
info = (ctypes.c_int * 32)(signal.SIGTERM, 0, -1)
syscall(129 if X86 else 138, at["victim"], signal.SIGTERM, info)
got()
""",
    "kill a process by owning a file": """
one, other = socket.socketpair()
fcntl.fcntl(one, 8, at["victim"])  # F_SETOWN
fcntl.fcntl(one, 10, signal.SIGKILL)  # F_SETSIG
fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)
other.send(b"x")
got()
""",
    "kill a process by owning a file, the newer way": """
one, other = socket.socketpair()
fcntl.fcntl(one, 15, struct.pack("ii", 1, at["victim"]))  # F_SETOWN_EX
fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)
other.send(b"x")
got()
""",
    "kill a process by owning a file, by ioctl": """
one, other = socket.socketpair()
fcntl.ioctl(one, 0x8901, struct.pack("i", at["victim"]))  # FIOSETOWN
fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)
other.send(b"x")
got()
""",
    "see whether its parent is there": """
os.kill(os.getppid(), 0)
got()
""",
    "take a process's files by a limit": """
import resource
resource.prlimit(at["victim"], resource.RLIMIT_NOFILE, (3, 3))
got()
""",
    "slow a process down": """
os.setpriority(os.PRIO_PROCESS, at["victim"], 19)
got()
""",
    "hold a process to one processor": """
os.sched_setaffinity(at["victim"], {min(os.sched_getaffinity(0))})
got()
""",
    "fork": """
if os.fork() == 0:
    os._exit(0)
os.wait()
got()
""",
    "fork by the raw system call": """
none = ctypes.c_long(0)
child = syscall(56 if X86 else 220, ctypes.c_long(signal.SIGCHLD), none, none, none, none)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
got()
""",
    "fork by the newer system call": """
arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
child = syscall(435, arguments, ctypes.c_size_t(64))
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
got()
""",
    "leave a process behind": """
child = os.fork()
if child == 0:
    os.setsid()
    os.close(1)
    os.close(2)
    time.sleep(60)
    os._exit(0)
got(child)
""",
    "leave its process group": """
child = os.fork()
if child == 0:
    os._exit(0)
os.setpgid(child, child)
got()
""",
    "start a program": """
import subprocess
got(subprocess.run([sys.executable, "-c", "print('started')"], capture_output=True).stdout)
""",
    "become a program": """
os.execv(sys.executable, [sys.executable, "-I", "-c", "print('GOT')"])
""",
    "become a program that is in memory only": """
file = os.memfd_create("x", 0)
os.write(file, b"#!/bin/sh\\necho GOT\\n")
os.execve(file, ["x"], {})
""",
    "connect by TCP": """
socket.create_connection(("127.0.0.1", at["tcp"])).sendall(b"x")
got()
""",
    "listen by TCP": """
socket.create_server(("127.0.0.1", 0))
got()
""",
    "send by UDP": """
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", at["udp"]))
got()
""",
    "look at the network": """
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
got()
""",
    "connect to a unix socket": """
socket.socket(socket.AF_UNIX).connect(at["unix"])
got()
""",
    "connect to an abstract unix socket": r"""
socket.socket(socket.AF_UNIX).connect("\0" + at["name"])
got()
""",
    "send from a pair of sockets to a third": """
one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.sendto(b"x", at["datagrams"])
got()
""",
    "watch a folder": """
number = libc.inotify_init()
if number >= 0 and libc.inotify_add_watch(number, at["folder"].encode(), 0x100) >= 0:
    got()
""",
    "take back what was taken": """
if libc.prctl(4, 1, 0, 0, 0) == 0 and libc.prctl(1, 0, 0, 0, 0) == 0:  # dumpable, PDEATHSIG
    got()
""",
    "send a signal by a timer": """
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("how", ctypes.c_int)]
    _fields_ += [("rest", ctypes.c_char * 48)]
timer = ctypes.c_int()
syscall(222 if X86 else 107, 1, ctypes.byref(Event(0, 10, 0)), ctypes.byref(timer))
got()
""",
    "put itself into a namespace": """
syscall(272 if X86 else 97, 0x400)  # CLONE_FILES: allowed to everybody, as the first step is
got()
""",
}

#: Only on x86_64: the 32-bit calls, whose numbers mean something else. getpid is 20 there and
#: writev here.
OLD_CALLS = """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\\x53\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\x5b\\xc3")  # push rbx; getpid; pop rbx; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
if call() == os.getpid():
    got()
"""
