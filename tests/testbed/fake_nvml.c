/* Answers as NVIDIA's management library does on a machine with NVIDIA_FAKE_GPUS of them, each 80 GiB, GPU n used by (n + 1) GiB.
   NVIDIA_FAKE_MIG says how many MIG instances GPU 0 is divided into: number n of them has 10 * (n + 1) GiB, of which 1 is used. */
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } utilization;
enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

static unsigned gpus(void) { const char *text = getenv("NVIDIA_FAKE_GPUS"); return text ? (unsigned)atoi(text) : 2; }
static unsigned index_of(void *device) { return (unsigned)(unsigned long)device - 1; }
static unsigned instances(void *device) {
    const char *text = getenv("NVIDIA_FAKE_MIG");
    return text && index_of(device) == 0 ? (unsigned)atoi(text) : 0;
}
static int is_instance(void *device) { return (unsigned long)device > 1000; }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = gpus(); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= gpus()) return INVALID_ARGUMENT;
    *device = (void *)(unsigned long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    (void)device;
    snprintf(name, length, "NVIDIA A100-SXM4-80GB");
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    if (is_instance(device)) snprintf(uuid, length, "MIG-fake-%u", (unsigned)((unsigned long)device - 1001));
    else snprintf(uuid, length, "GPU-fake-%u", index_of(device));
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *info) {
    if (is_instance(device)) {
        info->total = ((unsigned long)device - 1000ULL) * 10ULL << 30;
        info->used = 1ULL << 30;
        info->free = info->total - info->used;
        return SUCCESS;
    }
    info->total = 80ULL << 30;
    info->used = (index_of(device) + 1ULL) << 30;
    info->free = info->total - info->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization *rates) {
    rates->gpu = 40 + index_of(device);
    rates->memory = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    *current = *pending = instances(device) > 0;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { (void)device; *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **instance) {
    if (index >= instances(device)) return INVALID_ARGUMENT;
    *instance = (void *)(unsigned long)(1001 + index);
    return SUCCESS;
}
