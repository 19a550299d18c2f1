/* The few functions of the CUDA driver that tell of a GPU, for machines without one: one Jetson Orin. */
#include <stdio.h>

int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Orin"); return 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    switch (attribute) {
    case 16: *value = 8; return 0; /* multiprocessors */
    case 75: *value = 8; return 0; /* compute capability */
    case 76: *value = 7; return 0;
    default: return 1;
    }
}
