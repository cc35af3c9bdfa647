// What the kernel alone costs: the system calls of one container start, and nothing else.
//
//   floor run [--overlay] [--no-cgroup] ROOT CMD [ARG...]   be one container, then remove its cgroups
//   floor enter PID CMD [ARG...]                            join PID's namespaces and cgroups, run CMD there
//   floor hello                                             exit at once: a static hello-world
//
// ROOT is the root directory, or with --overlay a directory holding lower/, upper/, work/ and root/.
// The namespaces, mounts, device nodes, links, masks and read-only paths are those of the document
// `runc spec` prints. The container's process shares our memory until execve(2), enters cgroup v1
// directories by writing to `tasks` (a lone thread does not wait for an RCU grace period there) and a
// cgroup v2 directory with CLONE_INTO_CGROUP. A runtime cannot be faster; what it adds is its own cost.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define SAFE (MS_NOSUID | MS_NOEXEC | MS_NODEV)

struct cgroup {
    char controller[32];
    char path[256];
    int enter; // `tasks`, or for v2 the directory
    int tree;  // detached clone of the directory, for the container's /sys/fs/cgroup
};

static struct cgroup groups[16];
static unsigned group_count;
static int unified; // groups[0] is a cgroup v2 directory
static const char *const controllers[] = {"cpu",  "cpuacct", "cpuset", "memory", "devices",
                                          "freezer", "blkio", "pids", "systemd"};

static void fail(const char *what)
{
    dprintf(2, "floor: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void try(long result, const char *what)
{
    if (result < 0)
        fail(what);
}

static int is_mounted(const char *path, long magic)
{
    struct statfs s;
    return !statfs(path, &s) && s.f_type == magic;
}

// A v1 cpuset takes no task before it has processors and memory nodes.
static void inherit(const char *directory, const char *file)
{
    char path[320], value[256];
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpuset/%s", file);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(from, value, sizeof value);
    close(from);
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int to = open(path, O_WRONLY | O_CLOEXEC);
    if (length > 0)
        try(write(to, value, length), path);
    close(to);
}

static void make_cgroups(void)
{
    char file[320];
    if (is_mounted("/sys/fs/cgroup", 0x63677270)) {
        struct cgroup *g = &groups[group_count++];
        unified = 1;
        snprintf(g->path, sizeof g->path, "/sys/fs/cgroup/floor-%d", getpid());
        try(mkdir(g->path, 0755), g->path);
        try(g->enter = open(g->path, O_PATH | O_DIRECTORY | O_CLOEXEC), g->path);
        return;
    }
    for (unsigned i = 0; i < COUNT(controllers); i++) {
        struct cgroup *g = &groups[group_count];
        snprintf(file, sizeof file, "/sys/fs/cgroup/%s", controllers[i]);
        if (!is_mounted(file, 0x27e0eb))
            continue;
        strcpy(g->controller, controllers[i]);
        snprintf(g->path, sizeof g->path, "%.64s/floor-%d", file, getpid());
        try(mkdir(g->path, 0755), g->path);
        if (!strcmp(controllers[i], "cpuset")) {
            inherit(g->path, "cpuset.cpus");
            inherit(g->path, "cpuset.mems");
        }
        snprintf(file, sizeof file, "%.280s/tasks", g->path);
        try(g->enter = open(file, O_WRONLY | O_CLOEXEC), file);
        try(g->tree = syscall(SYS_open_tree, -1, g->path, OPEN_TREE_CLONE | O_CLOEXEC), g->path);
        group_count++;
    }
}

static void remove_cgroups(void)
{
    for (unsigned i = 0; i < group_count; i++)
        for (int round = 0; rmdir(groups[i].path) && errno == EBUSY && round < 10000; round++)
            usleep(50);
}

static void make_dev(void)
{
    static const struct { const char *name; int major, minor; } nodes[] = {
        {"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}, {"/proc/kcore", "core"},
    };
    static const char *const directories[] = {"pts", "shm", "mqueue"};
    try(mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "/dev");
    try(chdir("/dev"), "/dev");
    for (unsigned i = 0; i < COUNT(directories); i++)
        try(mkdir(directories[i], 0755), directories[i]);
    try(mount("devpts", "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "pts");
    try(mount("shm", "shm", "tmpfs", SAFE, "mode=1777,size=65536k"), "shm");
    try(mount("mqueue", "mqueue", "mqueue", SAFE, NULL), "mqueue");
    for (unsigned i = 0; i < COUNT(nodes); i++)
        try(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].name);
    for (unsigned i = 0; i < COUNT(links); i++)
        try(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void make_sys(void)
{
    try(mount("sysfs", "/sys", "sysfs", SAFE | MS_RDONLY, NULL), "/sys");
    if (!group_count)
        return;
    if (unified) {
        try(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", SAFE | MS_RDONLY, NULL), "cgroup2");
        return;
    }
    try(mount("tmpfs", "/sys/fs/cgroup", "tmpfs", SAFE, "mode=755"), "/sys/fs/cgroup");
    try(chdir("/sys/fs/cgroup"), "/sys/fs/cgroup");
    for (unsigned i = 0; i < group_count; i++) {
        try(mkdir(groups[i].controller, 0755), groups[i].controller);
        try(syscall(SYS_move_mount, groups[i].tree, "", AT_FDCWD, groups[i].controller, MOVE_MOUNT_F_EMPTY_PATH),
            groups[i].controller);
    }
    try(mount(NULL, "/sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | SAFE, NULL), "/sys/fs/cgroup");
}

static void protect(void)
{
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/proc/kcore",
                                         "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"};
    struct stat s;
    for (unsigned i = 0; i < COUNT(read_only); i++) {
        if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL))
            continue;
        try(mount(NULL, read_only[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), read_only[i]);
    }
    for (unsigned i = 0; i < COUNT(masked); i++) {
        if (stat(masked[i], &s))
            continue;
        if (S_ISDIR(s.st_mode))
            try(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL), masked[i]);
        else
            try(mount("/dev/null", masked[i], NULL, MS_BIND, NULL), masked[i]);
    }
    try(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "/");
}

static __attribute__((noinline)) void child(const char *root, int overlay, char **argv)
{
    static char *environment[] = {"PATH=/bin", NULL};
    if (!unified)
        for (unsigned i = 0; i < group_count; i++)
            try(write(groups[i].enter, "0", 1), groups[i].path);
    try(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private /");
    if (overlay) {
        try(chdir(root), root);
        try(mount("overlay", "root", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work"), "overlay");
        try(chdir("root"), "root");
    } else {
        try(mount(root, root, NULL, MS_BIND | MS_REC, NULL), root);
        try(chdir(root), root);
    }
    try(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    try(umount2(".", MNT_DETACH), "detach the old root");
    try(mount("proc", "/proc", "proc", SAFE, NULL), "/proc");
    make_dev();
    make_sys();
    protect();
    try(sethostname("floor", 5), "sethostname");
    try(chdir("/"), "/");
    execve(argv[0], argv, environment);
    fail(argv[0]);
}

// In line, so that the child, which runs on our stack, cannot overwrite a return address in use.
static inline __attribute__((always_inline)) long clone3_here(struct clone_args *a)
{
#if defined __x86_64__
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"((long)SYS_clone3), "D"(a), "S"(sizeof *a)
                     : "rcx", "r11", "memory");
    return result;
#elif defined __aarch64__
    register long number __asm__("x8") = SYS_clone3;
    register long first __asm__("x0") = (long)a;
    register long second __asm__("x1") = sizeof *a;
    __asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second) : "memory");
    return first;
#else
#error "no clone3 for this architecture"
#endif
}

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(char **argv)
{
    int overlay = 0, cgroups = 1;
    for (; *argv && !strncmp(*argv, "--", 2); argv++) {
        overlay |= !strcmp(*argv, "--overlay");
        cgroups &= strcmp(*argv, "--no-cgroup") != 0;
    }
    if (!argv[0] || !argv[1]) {
        dprintf(2, "usage: floor run [--overlay] [--no-cgroup] ROOT CMD [ARG...]\n");
        return 125;
    }
    struct clone_args a = {.exit_signal = SIGCHLD,
                           .flags = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWNET |
                                    CLONE_VM | CLONE_VFORK};
    if (cgroups)
        make_cgroups();
    if (unified) {
        a.flags |= CLONE_INTO_CGROUP | CLONE_NEWCGROUP;
        a.cgroup = groups[0].enter;
    }
    long pid = clone3_here(&a);
    if (pid == 0)
        child(argv[0], overlay, argv + 1);
    errno = -pid;
    try(pid, "clone3");
    int status = wait_for(pid);
    remove_cgroups();
    return status;
}

static void enter_cgroup(char *line)
{
    char path[320], *name = strchr(line, ':'), *at = name ? strchr(name + 1, ':') : NULL;
    if (!at)
        return;
    *at++ = 0;
    name++;
    if (!strncmp(name, "name=", 5))
        name += 5;
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s%.200s/tasks", name, at);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        try(write(fd, "0", 1), path);
}

static int enter(char **argv)
{
    static char *environment[] = {"PATH=/bin", NULL};
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%s/cgroup", argv[0]);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, text, sizeof text - 1);
    try(length, path);
    text[length] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        enter_cgroup(line);
    int target = syscall(SYS_pidfd_open, atoi(argv[0]), 0);
    try(target, path);
    try(setns(target, CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS), "setns");
    pid_t pid = vfork();
    if (pid == 0) {
        execve(argv[1], argv + 1, environment);
        _exit(127);
    }
    try(pid, "vfork");
    return wait_for(pid);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && !strcmp(argv[1], "hello"))
        return write(1, "hello\n", 6) != 6;
    if (argc >= 2 && !strcmp(argv[1], "run"))
        return run(argv + 2);
    if (argc >= 4 && !strcmp(argv[1], "enter"))
        return enter(argv + 2);
    dprintf(2, "usage: floor run|enter|hello ... (see the top of floor.c)\n");
    return 125;
}
