"""Where trials and runs are kept, for any number of workers: nothing here decides anything."""
