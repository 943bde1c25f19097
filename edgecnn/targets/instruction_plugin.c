/* A plugin of QEMU's user mode (docs/devel/tcg-plugins in its sources): counts the instructions that the emulated
 * program executes, and writes the count down whenever the program calls getpgid(0x5eed0000 + k), which no program
 * does by chance and which answers "no such process".
 *
 * Debian 12 has no qemu-plugin.h, so what is used of it is declared here. A callback for each block is slower than
 * QEMU's inline counters, whose functions changed with version 9; this one is the same in all.
 *
 * cc -shared -fPIC -O2 -DPLUGIN_VERSION=1 -o plugin.so instruction_plugin.c     (2 from QEMU 9 on)
 * qemu-aarch64 -plugin plugin.so,syscall=155,out=FILE ...
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
typedef void (*translated_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_cb)(unsigned vcpu, void *data);
typedef void (*syscall_cb)(qemu_plugin_id_t, unsigned vcpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_cb);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_cb, int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_cb);

#define PUBLIC __attribute__((visibility("default")))
PUBLIC int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t count;
static int64_t mark_syscall = -1;
static FILE *out;

static void executed(unsigned vcpu, void *instructions)
{
    (void)vcpu;
    count += (uintptr_t)instructions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t first, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)vcpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == mark_syscall && (first & 0xffff0000u) == 0x5eed0000u) {
        fprintf(out, "%u %" PRIu64 "\n", (unsigned)(first & 0xffffu), count);
        fflush(out);
    }
}

PUBLIC int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "syscall=", 8) == 0)
            mark_syscall = atoll(argv[i] + 8);
        else if (strncmp(argv[i], "out=", 4) == 0)
            out = fopen(argv[i] + 4, "w");
    }
    if (out == NULL || mark_syscall < 0)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
