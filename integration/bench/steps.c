// Which code of a program runs, in the order it first does: every instruction is stepped through.
//
//   steps OUTPUT PROGRAM [ARG...]
//
// Writes the address of each 16-byte block of PROGRAM that was executed, by it and by what it forks, until that
// becomes another program. PROGRAM has a fixed load address below 4 GiB, as the release has. Takes about a
// minute for the start of a container, and ends with it. For integration/scripts/order-functions; x86-64 only.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char seen[1u << 28];

static void note(pid_t pid, FILE *out)
{
    struct user_regs_struct registers;

    if (ptrace(PTRACE_GETREGS, pid, 0, &registers) || registers.rip >> 32)
        return;
    if (!seen[registers.rip >> 4]++)
        fprintf(out, "%llx\n", (unsigned long long)registers.rip);
}

int main(int argc, char **argv)
{
    FILE *out = argc > 2 ? fopen(argv[1], "w") : NULL;
    if (!out) {
        fprintf(stderr, "usage: steps OUTPUT PROGRAM [ARG...]\n");
        return 2;
    }
    pid_t first = fork();
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int status, live = 1, result = 0, started = 0;
    waitpid(first, &status, 0);
    ptrace(PTRACE_SETOPTIONS, first, 0,
           PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
    ptrace(PTRACE_SINGLESTEP, first, 0, 0);
    while (live > 0) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0)
            break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == first)
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
            live--;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16, pass = 0;
        if (event == PTRACE_EVENT_EXEC && started) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            live -= pid != first;
            continue;
        }
        if (event == PTRACE_EVENT_EXEC)
            started = 1;
        else if (event)
            live++;
        else if (signal != SIGTRAP && signal != SIGSTOP)
            pass = signal;
        if (started)
            note(pid, out);
        ptrace(PTRACE_SINGLESTEP, pid, 0, pass);
    }
    return fclose(out) || result;
}
