"""`python -m pycompss run app.py`: what `runcompss app.py` does."""

from isthmus.tasks.launch import main

if __name__ == "__main__":
    main()
